"""The program `ampgraph`, and `python -m ampgraph`."""

import signal


def main() -> None:
    """Run the command line. Ctrl-C while it is loaded ends the process at once: there is nothing yet to tidy up."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ampgraph.cli import main as run

    run()


if __name__ == "__main__":
    main()
