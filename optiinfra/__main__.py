"""`python -m optiinfra` is the `optiinfra` command."""

from optiinfra.cli import main

if __name__ == "__main__":
    main()
