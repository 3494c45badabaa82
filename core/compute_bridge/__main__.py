"""The command line's start: the version at once, everything else when it is asked for."""

import sys


def main() -> int:
    """Run the command that the process was started with and return its exit code."""
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        from compute_bridge import __version__

        sys.stdout.write(f"compute-bridge {__version__}\n")
        return 0
    from compute_bridge.cli.main import dispatch, end

    return end(dispatch(arguments))


if __name__ == "__main__":
    sys.exit(main())
