"""What healthy servers print: what to look for in a log is chosen rare in here, so that a quiet log is passed over fast.

It decides about speed alone. Each kind of line stands once, without its numbers; the words are those that messages of any kind
are made of.
"""

from __future__ import annotations

import re

_HEALTHY = """\
[START] ComfyUI-Manager [DONE] Security scan ** ComfyUI startup time: ** Platform: Linux ** Python version: [GCC
** Python executable: ** ComfyUI Path: ** User directory: ** ComfyUI-Manager config path: config.ini ** Log path: comfyui.log
Prestartup times for custom nodes: installing dependencies done. Using GitPython backend network_mode: public
Checkpoint files will always be loaded safely. Total VRAM MB, total RAM MB pytorch version: xformers version: +cu +cpu +rocm
Set vram state to: NORMAL_VRAM HIGH_VRAM LOW_VRAM DISABLED Set cuda device to: Device: cuda: NVIDIA GeForce RTX
cudaMallocAsync native Using pytorch attention in VAE Using xformers attention Using sage attention split attention
Using sub quadratic optimization for attention, if you have memory or speed issues try using: --use-split-cross-attention
Using async weight offloading with streams Using pinned memory Enabled pinned memory
comfy-kitchen version: comfy-aimdo version: Found comfy_kitchen backend eager: {'available': True, 'disabled': False,
'capabilities': ['apply_rope',
[Prompt Server] web root: comfyui_frontend_package/static ComfyUI frontend version: comfyui-workflow-templates version:
Context impl SQLiteImpl. Will assume non-transactional DDL. setup plugin alembic.autogenerate.constraints Asset seeder disabled
### Loading: ComfyUI-Impact-Pack [rgthree-comfy] Loaded 42 extraordinary nodes. nodes successfully. Nodes Loaded
[comfyui_controlnet_aux] | INFO -> Using ckpts path: Some nodes could not be loaded. This can be ignored
Cannot import name 'guidedFilter' from 'cv2.ximgproc', a few nodes will not work, most are not affected.
No OpenGL_accelerate module loaded: No module named 'OpenGL_accelerate' [Crystools INFO] Platform release:
FutureWarning: Importing from timm.models.layers is deprecated, please import via timm.layers warnings.warn(f"
UserWarning: DeprecationWarning: site-packages/torch/ /usr/local/lib/python3 /home/user/ D:\\AI\\ComfyUI_windows_portable
Import times for custom nodes: 0.0 seconds: custom_nodes/websocket_image_save.py .safetensors .ckpt .pth .gguf models/checkpoints
Starting server To see the GUI go to: http://127.0.0.1:8188 got prompt Prompt executed in 1.0 seconds FETCH DATA from: [DONE]
[DEBUG] found files recursive file list on directory models/upscale_models Using selector: EpollSelector
model weight dtype torch.float8_e4m3fn, manual cast: torch.bfloat16 torch.float16 torch.float32 None model_type FLUX EPS
VAE load device: cuda:0, offload device: cpu, dtype: CLIP/text encoder model load device: current:
clip missing: ['text_projection.weight'] clip unexpected: left over keys: dict_keys(['cond_stage_model.logit_scale'])
no CLIP/text encoder weights in checkpoint, the text encoder model will not be loaded. Requested to load AutoencoderKL
loaded completely; MB usable, MB loaded, full load: True loaded partially; MB offloaded, lowvram patches: 0
Unloaded partially: MB freed, MB remains loaded, MB buffer reserved, prepared for dynamic VRAM loading. Staged. patches attached.
Requested to load FluxClipModel_ SDXLClipModel CLIPVisionModelProjection QwenImage WAN21 ControlNet KSamplerAdvanced node the same
lora key not loaded: lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha unet missing: unet unexpected:
Token indices sequence length is longer than the specified maximum sequence length for this model
Some weights of the model checkpoint at were not used when initializing CLIPTextModel: missing {'cond_stage_model.clip_l
Using a slow image processor as `use_fast` is unset and a slow processor was saved with this model.
Loading pipeline components...: Fetching files: Downloading shards: model loaded from cache
100%|##########| 20/20 [00:10<00:00, 1.99it/s] s/it Sampling: Processing frames: Upscaling: tiles: Generating
"GET /ws?clientId= HTTP/1.1" 200 "POST /prompt /queue /history?max_items= /view?filename=ComfyUI_00001_.png&subfolder=&type=output
INFO WARNING DEBUG: [INFO] [WARNING] [notice] stdout F Z level=info msg= comfyui-1 | python[123]:
allocated GiB, reserved GiB, GPU memory in use, memory pool, free memory: total capacity, VRAM usage, peak memory
step loss: lr: grad_norm: gpu_mem: epoch cached=True, took, mem_peak= errors=0, warnings=0 exit code 0, finished, success
optional input failed validation: using default (no error) {'prompt_id': 'nodes': 'extra': {'seed': client_id
requests: uploaded image saved output to queue size, running, pending, interrupted, cancelled, cleaned up, reset
/mnt/模型/ComfyUI/models/checkpoints/国风3.safetensors custom_nodes/图像工具
D:\\AI\\ComfyUI-aki\\秋葉整合包 加载模型 模型加载完成 下载完成
正在加载节点 正在生成图像 采样步数 显存 内存 显卡 驱动 版本
启动完成 任务完成 执行 队列 工作流 提示词 保存文件 输出目录 路径 系统 程序 进程 设备
NCCL version NCCL INFO Using network Socket Connected all rings triton version compiled with torch.compile
""".encode()

_COMMON_WORDS = b"""\
access allocated allocation already another argument attention available before between buffer cached callback called cannot
channels completed computing configuration connected connection contains conversion count created creating current default
dependencies deprecated detected device different dimension directory does doesn't downloaded driver during dynamic enabled
encountered engine entries environment error errors execution expected extension failed failure fallback file found from full
function generated handled has have image images implemented incorrect index initialized input instead instruction invalid
kernel known layer length library limit local matrix maximum message minimum missing model models must need needed needs network
node nodes not number operation option order output parameter passed performance please precision process processed processing
product queue reading received reference release remaining removed request requested required requires reset result return
returned returning runtime same saved section selected server setting shape should size skipped something specified started
status step stopped stream string support supported system target tensor thread threads timeout tokens total trying type
undefined unexpected unknown unsupported update usage value values variable version waiting warning wasn't weight weights while
width will with without worker would writing written wrong
"""

_SHORTEST = 4
_SHORTEST_RARE = 8
_FEWEST_LETTERS = 4
_LINES, _WORDS = _HEALTHY.lower(), _COMMON_WORDS.lower()
_LETTER = re.compile(rb"[^\d\s]")

COMMON, UNCOMMON, RARE = range(3)


def rarity(literal: bytes) -> int:
    """How often logs that tell nothing hold this, in letters of either case: COMMON, UNCOMMON or RARE, by these lines."""
    folded = literal.lower()
    if len(literal) < _SHORTEST or folded in _LINES:
        return COMMON
    telling = len(literal) >= _SHORTEST_RARE or len(_LETTER.findall(literal)) >= _FEWEST_LETTERS
    return RARE if telling and not literal.isdigit() and folded not in _WORDS else UNCOMMON
