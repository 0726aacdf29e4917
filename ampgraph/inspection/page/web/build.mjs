/** Bundles the page's code. `--check` builds anew and fails where the bundle that is kept differs. */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const bundle = join(here, "..", "bundle");
const common = {
  bundle: true,
  minify: true,
  write: false,
  absWorkingDir: here,
  target: ["es2022"],
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
};

/** Only characters of ASCII in what the page's policy has hashes of: they hold in whatever encoding it is read. */
async function script(entry, options = {}) {
  const { outputFiles, metafile } = await build({ ...common, entryPoints: [entry], format: "iife", ...options });
  return { text: outputFiles[0].text, inputs: Object.keys(metafile.inputs) };
}

/** Graphviz' own binary, out of the text that its package holds it in, and the package's code without it. */
function apart() {
  const binary = /binaryDecode\(('(?:[^'\\]|\\.)*')\)/s;
  const found = { wasm: null };
  const plugin = {
    name: "apart",
    setup: ({ onLoad }) =>
      onLoad({ filter: /@viz-js\/viz\/dist\/viz\.js$/ }, async ({ path }) => {
        const text = await readFile(path, "utf8");
        const literal = binary.exec(text)?.[1];
        if (literal === undefined) throw new Error(`${path} holds no binary where it is looked for`);
        found.wasm = Buffer.from(new Function(`return ${literal}`)(), "latin1");
        return { contents: text.replace(binary, () => "self.engine"), loader: "js" };
      }),
  };
  return { plugin, found };
}

/** Names of the packages that inputs come from. */
function packages(inputs) {
  const names = inputs.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []);
  return [...new Set(names)].sort();
}

async function license(name) {
  const root = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const text = await readFile(join(root, "LICENSE"), "utf8").catch(() =>
    readFile(join(here, "licenses", `${name.replaceAll("/", "+")}.txt`), "utf8"),
  );
  return `${"=".repeat(100)}\n${name} ${version} (${license})\n${"=".repeat(100)}\n\n${text.trim()}\n`;
}

async function made() {
  const { plugin, found } = apart();
  const boot = await script("src/boot.ts");
  const page = await script("src/main.ts");
  const layout = await script("src/worker.ts", { plugins: [plugin], define: { "import.meta.url": '""' } });
  const style = await build({ ...common, entryPoints: ["src/style.css"] });
  const licenses = await Promise.all(packages([...page.inputs, ...layout.inputs]).map(license));
  return {
    "boot.js": boot.text,
    "page.js": page.text,
    "layout.js": layout.text,
    "layout.wasm": found.wasm,
    "page.css": style.outputFiles[0].text,
    "LICENSES.txt": `Third-party code in page.js, layout.js and layout.wasm.\n\n${licenses.join("\n")}`,
  };
}

const files = await made();
if (process.argv.includes("--check")) {
  for (const [name, text] of Object.entries(files)) {
    const kept = await readFile(join(bundle, name)).catch(() => Buffer.from(""));
    if (!kept.equals(Buffer.from(text))) {
      console.error(`bundle/${name} is not what the sources make: run npm run build`);
      process.exitCode = 1;
    }
  }
} else {
  await mkdir(bundle, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(bundle, name), text);
}
