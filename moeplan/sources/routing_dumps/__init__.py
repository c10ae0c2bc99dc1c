"""What engines write of their routing, read as profiles: counts and curves; text and token ids are left behind.

sglang          the expert distribution recorder: stat, per_pass and per_token dumps (.pt)
vllm            expert load statistics of its load balancer (JSON lines)
trtllm          EXPERT_STATISTIC folders (meta_info.json, rank*.safetensors)
imatrix         importance matrices of llama.cpp (.gguf)
returned        responses with `routed_experts`, as vLLM and SGLang send them (JSON lines), and such arrays (.npy)
balance_lines   balancedness as vLLM and SGLang log it: no counts, so no profile

known           what is known beside a dump: the model, its experts per token, the phase
counting        counts of steps added up, and checked
sequences       choices token by token, folded as captures are
torch_files     tensors of a .pt file, of which nothing is run
numpy_arrays    one array of a .npy file
"""
