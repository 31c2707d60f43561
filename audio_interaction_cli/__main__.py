"""The start of `ai-cli` and of `python -m audio_interaction_cli`: an interruption is quiet from the first moment."""

import sys


def main() -> None:
    """Run the command line of `sys.argv`."""
    try:
        from audio_interaction_cli import main

        main.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
