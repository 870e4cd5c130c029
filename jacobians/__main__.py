"""``python -m jacobians`` is the ``jacobians`` command."""

from jacobians.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
