"""`python -m cordee.cli`: how the supervisor starts gateways and workers, whatever the PATH."""

from cordee.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
