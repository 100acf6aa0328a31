"""`python -m dfs` is `dfs`."""

from dfs.cli.main import main

if __name__ == "__main__":
    main()
