"""`python -m audio_interaction_cli` is `ai-cli`."""

from audio_interaction_cli.cli import main

main()
