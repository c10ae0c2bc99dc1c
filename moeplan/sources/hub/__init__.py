"""The Hugging Face Hub: one commit of a repository, its config, its headers, never its weights.

model       a repository as a model: config and headers, or a GGUF file
address     how people write a repository
config      config.json and sidecar, and what a repository holds
headers     safetensors headers, in parallel, by ranges
gguf        which GGUF models there are, and reading one by ranges
cache       what was read, kept by repository and commit
requests    the client's session: ranges, patience, time limits
errors      what went wrong, in words
"""
