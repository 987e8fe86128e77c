"""``python -m fimp`` is the command ``fimp``."""

from fimp.cli.main import main

if __name__ == "__main__":
    main()
