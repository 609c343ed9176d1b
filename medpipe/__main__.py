"""`python -m medpipe` is `medpipe`: the form that torchrun starts (`torchrun --nproc-per-node 4 -m medpipe run`)."""

from medpipe.cli import main

if __name__ == "__main__":
    main()
