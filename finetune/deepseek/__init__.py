"""The DeepSeek family in TensorFlow, from Hugging Face checkpoints.

    tokens ─► embedding ─► [ norm ─► attention ─► + ─► norm ─► feed-forward ─► + ] × L ─► head
                             grouped-query or latent          dense or experts

    DeepSeek-LLM, DeepSeek-Coder, R1-Distill-Llama   Llama: grouped-query, dense
    R1-Distill-Qwen                                  Qwen2: the same with biases on q, k, v
    DeepSeek-V2, V2-Lite, Coder-V2                   latent attention; experts by softmax
    DeepSeek-V3, R1                                  latent attention; experts by sigmoid, YaRN

config  visible  rotary  layers  attention  latent_attention  feed_forward  experts  decoder
cache  long_attention     decoding  sampling  generate  signatures: writing texts
safetensors_file  weights  checkpoint     auto  registration: for transformers' auto classes
lora  adapter: low-rank fine-tuning       balance: the experts' load
"""

from finetune.deepseek import registration

registration.register()
