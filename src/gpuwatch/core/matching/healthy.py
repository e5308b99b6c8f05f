"""What healthy servers print: what to look for in a log is chosen rare in here, so that a quiet log is passed over fast.

It decides about speed alone. Each kind of line stands once, without its numbers; the words are those that messages of Python
packages hold most often.
"""

from __future__ import annotations

import re

_HEALTHY = b"""\
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
NCCL version NCCL INFO Using network Socket Connected all rings triton version compiled with torch.compile
"""

_COMMON_WORDS = b"""\
returns should which given false values parameters where tensors using inputs instead arguments first examples cannot numpy
specified found https after single memory called returned please before deprecated dimensions empty requires otherwise whether
invalid elements context forward failed keyword between different kwargs nodes provided metadata attributes passed raises
multiple information details pytorch available based containing during already within while these without contains because
objects functions bytes required local their corresponding following indices being currently layout ndarray outputs original
callable complex equivalent defaults would doesn supports operations right running custom since padding could least always
calling global maximum unsupported generated raised negative width manager arrays directly mapping across dynamic created level
dictionary stack calls reduction usage github storage additional results notes shapes through randn represents along matrix
behavior autograd total useful strategy means directory possible takes split quantized cursor compiled needed enabled linear
tracing future entry wrapper cases inductor boolean provides methods distributed environment errors template dimensional ranks
xdoctest applied unknown those groups nested computes container dtypes build static textual floating iterable allowed registered
parent sizes checks representing missing response times below system another strings triton common documentation opentelemetry
mismatch quantization creates including sparse implemented removed avoid every characters files allows applies stable ignored
zeros library compiler exists about params client unexpected gradients works contiguous random standard greater above whose
expects received desired needs arange replaced positive signal representation binary console similar weights color matches
access matching saved tests kernels variables integers signature instances handles unique special however vector symbolic
existing lines subgraph associated double precision relative points configuration automatically computation exactly minimum
buffers helper requests active lower screen until timeout optimizer underlying interface fused compatibility still shared
installed training changes computed testing protocol entries selected assert proxy seconds height query limit world prefix
numbers strided converted subclasses generator algorithm instrument inside issues reshape specifies disabled display initialized
decorator dispatch inplace positional execution failure lists tuples widgets passing appropriate operators users command status
events exceptions might iterator depending iteration devices messages wrapped generates necessary stored compilation handling
filename strides property columns unable background regular constraints semantics product simple resulting against label
typically features starting checkpoint performance series favor identifier windows according callback final performs section
rather slice indicates around encoding broadcasting gather inner itself absolute valueerror ordered release constructor
hypothesis fields inverse explicitly renderable handler coefficients makes closed actually hooks symint application search
processing indicating creating returning description several codegen program image fallback unless included items indexing
fusion styles union instruction children filter cached outside scatter report clear headers semconv offsets exported
deterministic placeholder attention higher implements varname force encountered modify specifying processes alpha threads
written extract overflow fails steps overridden functionality processgroup flattened general upper checking reason chunk
communication creation intended treated performed described trying rules expressions linalg larger exporter versions defines
bounds pairs platform later dependencies samples terminal related collection dilation follows undefined writing lambda arbitrary
three channels contents handled depends domain together scalars allocated never usually flags experimental difference fortran
partial destination duration rtype detected paths constants particular strategies inference graphmodule pipeline normalized
loading logging effect distributions skipped comparable tokens recommended longer validate schema debugging passes finished
modified fixed produced selection dense qconfig caching begin blocks traced versionadded namespace captured further optionally
having computing implementations power optimization symbols expand wrapping loaded backends scaled stores metrics supplied
placements encoded includes abstract skipping scroll traceback updated operand partition therefore wrong initialization depth
cpython conversion symmetric sympy workers extension spans recorded definition wheel pointer lookup unicode nothing smaller
correctly requirements guards subprocess various considered produces concrete runtimeerror matrices multiplication sorted
activation benchmark blocking reset individual sharding properly taken square setup progress reverse determined states entire
delete observed outer settings logical incorrect prepare generation interval address completed masked eager packages network
rendezvous
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
