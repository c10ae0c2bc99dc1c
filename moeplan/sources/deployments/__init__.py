"""Deployment files: what a team keeps in git, read into `core.deployed`.

Nothing is executed, nothing is fetched, and what a file does not tell is left open with its name.

read          paths to what their files deploy: the way in
files         folders, encodings, sizes: paths to texts; `gitignore` tells what git leaves out
nodes         YAML with places; `places` mends those of folded texts, `templates` tells what is not rendered
stream        what documents of one text know of each other; `beside` reads files of the same folder
shell         scripts to words, by `shell_tokens`, `shell_conditions` and `shell_wrappers`; `variables` expands what they hold
containers    environment, GPUs and engines of a container; `images`, `gpu_names`, `model_names`
plain_secrets tokens in plain text
directives    comments that speak to moeplan
kinds/        one file for each kind of deployment
"""
