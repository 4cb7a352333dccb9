"""`python -m envs.screening hopper-rand` draws and screens the frozen test tasks of a family anew."""

import argparse

from envs.screening.candidates import SEEDS, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m envs.screening", description="Draw and screen frozen test tasks.")
    parser.add_argument("family", choices=SEEDS, help="its task file is written anew")
    main(parser.parse_args().family)
