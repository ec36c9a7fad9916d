"""python -m cnctl"""

from cnctl.cli import main

main()
