"""`python -m cosmos_nemo.cli`, where the `cosmos-nemo` script is not on the path."""

from cosmos_nemo.cli import main

if __name__ == "__main__":
    main()
