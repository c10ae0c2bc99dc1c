"""GGUF files, whole or split, on disk or by ranges: metadata to a config, tensor types to bytes.

model           whole models, from one file or several
part            one file: header, metadata, tensor list
bytes           reading forwards in growing chunks, checked against the file's size
types names     numbers of types, and the roles that tensor names tell
metadata fields architectures config     metadata to a config that `families` reads
mixes           which type llama.cpp gives each tensor under `--quant q4_k_m` and its like
"""
