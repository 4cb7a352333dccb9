"""`python -m envs.screening hopper-rand` redraws and rescreens a family's frozen test tasks."""

import argparse

from envs.screening.candidates import SEEDS, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m envs.screening", description="Draw and screen frozen test tasks."
    )
    parser.add_argument(
        "family", choices=SEEDS, help="family whose task file is redrawn and overwritten"
    )
    main(parser.parse_args().family)
