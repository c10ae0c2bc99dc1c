"""moeplan: capacity and memory planning for Mixture-of-Experts language models."""
