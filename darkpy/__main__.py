"""``python -m darkpy``: the same as the command ``darkpy``."""

from darkpy.cli.main import run

if __name__ == "__main__":
    run()
