"""`python -m divulge.cli`."""

from divulge.cli import main

if __name__ == "__main__":
    main()
