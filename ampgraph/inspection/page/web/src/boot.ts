/** The first code of the page: it inflates the rest, whose hash the page's policy has too, and runs it. */

import { embedded } from "./decode";

async function boot(): Promise<void> {
  const script = document.createElement("script");
  script.textContent = await embedded("page");
  document.head.append(script);
}

void boot();
