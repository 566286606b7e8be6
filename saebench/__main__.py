"""``python -m saebench`` is the command ``saebench``."""

from saebench.cli.main import main

if __name__ == "__main__":
    main()
