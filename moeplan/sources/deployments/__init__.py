"""Deployment files: what a team keeps in git, read into `core.deployed`.

Nothing is executed, nothing is fetched, and what a file does not tell is left open with its name.

files         folders, encodings, sizes: paths to texts
nodes         YAML with places
stream        what documents of one text know of each other
shell         scripts to words; `variables` expands what they hold
containers    environment, GPUs and engines of a container; `images`, `gpu_names`, `model_names`
directives    comments that speak to moeplan
kinds/        one file for each kind of deployment
"""
