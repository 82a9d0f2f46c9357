"""`python -m launch` is `vssl`."""

from launch.cli import main

main()
