"""What files of weights are: one row for each form, by the names and shapes of tensors.

The first row whose rule holds decides. A rule is made of terms, which must all hold:

    controlnet_x_embedder.* & img_in.* | txt_in.* & !down_blocks.*

A term is the name of a tensor, in which `*` stands for any text; `|` separates names of which one
is enough, and after `!` there is no such tensor. A shape may follow: "conv_in.weight=*x9x3x3".
Classes are what a folder's config.json or model_index.json has as `_class_name`.
A family of bases claims a row by the name of its folder in `cnctl/models`, as `read_by`.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTROLNET, BASE, LORA, EMBEDDING, OTHER = "ControlNet", "base", "LoRA", "embedding", ""
FLAGS = {CONTROLNET: "--control", BASE: "--base", LORA: "--lora", EMBEDDING: "--embedding"}
"""Role -> the flag of `cnctl generate` that takes such weights; none takes OTHER ones."""


@dataclass(frozen=True)
class Signature:
    """One row: what a file serves as, what it is, how it is recognised, what to do with it."""

    role: str
    what: str
    rule: str = ""
    """"" where only the class says it."""
    classes: str = ""
    read_by: str = ""
    """The folder of `cnctl/models` that reads it; "" where none does."""
    also: str = ""
    """A second role that the same folder reads it in."""
    advice: str = ""
    """What to do, where the role does not say it."""
    count: int = 0
    """The number of tensors, where the form has a fixed one."""


UNET, SD3, FLUX, ZIMAGE, QWEN = "unet", "sd3", "flux", "zimage", "qwen"
TRANSFORMER = "transformer"
"""What several families of transformers may read."""
FACTOR = (
    "*lora_A.* | *lora_a.* | *lora_down.* | *lora.down.* | *lora_linear_layer.down.*"
    " | *_lora1.down.*"
)
OF_UNET = "*down_blocks* | *mid_block* | *up_blocks* | *input_blocks* | *middle_block* | *output_b*"
OF_TEXT = "*text_model* | *text_encoder* | lora_te*"
PLAIN = "--lora takes LoRAs; LoHa, LoKr, DoRA and the like are not read"
WHOLE = "give a whole base with --base: a folder of diffusers, or one file"
OF_FLUX_DEV = "give flux-dev, and for Canny and Depth --control flux_lora_canny or flux_lora_depth"
DETECTOR = "detectors find their weights themselves; cnctl models pull fetches them"

# fmt: off
SIGNATURES = (
    # Low ranks that are not a LoRA.
    Signature(CONTROLNET, "a Control-LoRA of Z-Image", "lora_controlnet & control_layers.*",
              read_by=ZIMAGE),
    Signature(CONTROLNET, "a Control-LoRA of Qwen-Image",
              "lora_controlnet & controlnet_x_embedder.* & img_in.*", read_by=QWEN),
    Signature(CONTROLNET, "a Control-LoRA of FLUX", "lora_controlnet & controlnet_x_embedder.*",
              read_by=FLUX),
    Signature(CONTROLNET, "a Control-LoRA of Stable Diffusion 3",
              "lora_controlnet & pos_embed_input.*", read_by=SD3),
    Signature(CONTROLNET, "a Control-LoRA", "lora_controlnet", read_by=UNET),
    Signature(CONTROLNET, "a ControlNet as its difference to a base", "difference", read_by=UNET),
    Signature(CONTROLNET, "a CtrLoRA", "*control_model.*lora_layer.*"),
    Signature(OTHER, "an IP-Adapter for faces (FaceID)",
              "ip_adapter.*_lora.* | image_proj.proj.0.* | image_proj.perceiver_resampler.*"),
    Signature(OTHER, "a PhotoMaker", "id_encoder.*"),
    Signature(OTHER, "a LoRA of motion modules (AnimateDiff)", "*motion_modules*lora*"),
    Signature(CONTROLNET, "a LoRA for FLUX.1 that reads hints as input channels",
              "*x_embedder.lora_A.weight=*x128 | *vector_in.in_layer.lora_A.weight & "
              "*x_embedder.lora_A.weight=*x128 | *img_in.lora_A.weight=*x128 & "
              "!*to_qkv_mlp_proj* & !*ff.linear_in*",
              read_by=FLUX),
    # LoRAs.
    Signature(LORA, "a LoHa of LyCORIS", "*.hada_w1_a*", advice=PLAIN),
    Signature(LORA, "a LoKr of LyCORIS", "*.lokr_w1*", advice=PLAIN),
    Signature(LORA, "an OFT of LyCORIS", "*.oft_blocks* | *.oft_diag* | *.oft_R*", advice=PLAIN),
    Signature(LORA, "a GLoRA of LyCORIS", "*.a1.weight & *.b1.weight", advice=PLAIN),
    Signature(LORA, "an IA3 of LyCORIS", "*.on_input", advice=PLAIN),
    Signature(LORA, "a DoRA", "*.dora_scale | *lora_magnitude_vector*", advice=PLAIN),
    Signature(LORA, "a LoRA for HunyuanVideo",
              f"{FACTOR} & *.img_attn_qkv* | *img_mlp_fc1* | *img_mod_linear* | *modulation_linear*"
              " | *individual_token_refiner*"),
    Signature(LORA, "a LoRA for FLUX",
              f"{FACTOR} & *double_blocks* | *single_blocks* | *single_transformer_blocks*",
              read_by=FLUX),
    Signature(LORA, "a LoRA for Stable Diffusion 3", f"{FACTOR} & *joint_blocks* | *ff_context*",
              read_by=SD3),
    Signature(LORA, "a LoRA for Qwen-Image",
              f"{FACTOR} & *transformer_blocks*img_m* | *transformer_blocks*txt_m*",
              read_by=QWEN),
    Signature(LORA, "a LoRA for Z-Image",
              f"{FACTOR} & *layers*_attention_* | *layers*.attention.* | *noise_refiner*",
              read_by=ZIMAGE),
    Signature(LORA, "a LoRA", f"{FACTOR} & {OF_UNET} | {OF_TEXT}", read_by=UNET),
    Signature(LORA, "a LoRA for Wan",
              f"{FACTOR} & *blocks*cross_attn* | transformer.blocks.* & !*layers*"),
    Signature(LORA, "a LoRA of a language model", f"{FACTOR} & *layers*self_attn*"),
    Signature(LORA, "a LoRA for a diffusion transformer", f"{FACTOR} & *blocks* | transformer.*",
              read_by=TRANSFORMER),
    Signature(LORA, "a LoRA for a network that is not known", FACTOR),
    Signature(LORA, "a difference of LyCORIS", "*.diff | *.diff_b", advice=PLAIN),
    # ControlNets, and what is like them.
    Signature(OTHER, "a ControlNet-LLLite", "lllite*"),
    Signature(OTHER, "a ControlNet-XS",
              "control_to_base_for_conv_in.* | *enc_zero_convs_out.* | *.base_to_ctrl.*",
              classes="ControlNetXS* UNetControlNetXS*"),
    Signature(OTHER, "a Uni-ControlNet", "*local_adapter.* | *global_adapter.*"),
    Signature(OTHER, "a UniControl", "*input_hint_block_list_moe* | *task_id_hypernet*"),
    Signature(OTHER, "a BrushNet (also of PowerPaint)", "brushnet_* | conv_in_condition.*",
              classes="BrushNet*"),
    Signature(OTHER, "a ControlNeXt", "mid_convs.* | *controlnext.*", classes="ControlNeXt*"),
    Signature(CONTROLNET, "a SparseCtrl, a ControlNet of AnimateDiff",
              "controlnet_down_blocks.* | controlnet_cond_embedding.* & *motion_modules.*",
              classes="SparseControlNet*"),
    Signature(CONTROLNET, "a ControlNet of Stable Video Diffusion",
              "controlnet_* & *temporal_* | *spatial_res_block*",
              classes="ControlNetSDV* ControlNetSVD*"),
    Signature(CONTROLNET, "a ControlNet of Kolors", "controlnet_* & encoder_hid_proj.*"),
    Signature(CONTROLNET, "a ControlNet of HunyuanDiT",
              "controlnet_blocks.* | after_proj_list.* & blocks.*.attn1.*",
              classes="HunyuanDiT*ControlNet*Model"),
    Signature(CONTROLNET, "a ControlNet of Sana", "controlnet_blocks.* & *ff.conv_inverted.*",
              classes="SanaControlNet*Model"),
    Signature(CONTROLNET, "a ControlNet of PixArt",
              "*controlnet*.copied_block.* | *controlnet*.before_proj.*",
              classes="PixArt*ControlNet*"),
    Signature(CONTROLNET, "a blockwise ControlNet of Qwen-Image", "controlnet_blocks.*.y_rms.*",
              classes="QwenBlockwiseControlNet", read_by=QWEN),
    Signature(CONTROLNET, "a ControlNet of Qwen-Image", "controlnet_x_embedder.* & img_in.*",
              classes="QwenImage*ControlNetModel", read_by=QWEN),
    Signature(CONTROLNET, "a ControlNet of Qwen-Image (Fun)",
              "control_img_in.* & control_blocks.*img_m* | control_blocks.*txt_m*",
              advice="diffusers has no such network; give InstantX's: qwen_union"),
    Signature(CONTROLNET, "a ControlNet of FLUX.2 (Fun)", "control_img_in.*"),
    Signature(CONTROLNET, "a ControlNet of FLUX (XLabs' form)",
              "controlnet_blocks.* & double_blocks.* & !controlnet_blocks.*.linear.*",
              read_by=FLUX),
    Signature(CONTROLNET, "a ControlNet of FLUX (MistoLine's form)",
              "controlnet_blocks.*.linear.*"),
    Signature(CONTROLNET, "a ControlNet-Union of FLUX",
              "controlnet_x_embedder.* & controlnet_mode_embedder.*", read_by=FLUX),
    Signature(CONTROLNET, "a ControlNet of FLUX", "controlnet_x_embedder.*",
              classes="Flux*ControlNetModel", read_by=FLUX),
    Signature(CONTROLNET, "a ControlNet of Stable Diffusion 3",
              "controlnet_blocks.* & pos_embed_input.*", classes="SD3*ControlNetModel",
              read_by=SD3),
    Signature(CONTROLNET, "a ControlNet of Z-Image",
              "control_all_x_embedder.* | control_layers.* | control_noise_refiner.*",
              classes="ZImageControlNetModel", read_by=ZIMAGE),
    Signature(CONTROLNET, "a ControlNet of Wan (VACE)", "*vace_blocks.* | *vace_patch_embedding.*",
              classes="WanVACE*Model"),
    Signature(CONTROLNET, "a ControlNet of Wan",
              "control* & blocks.*.cross_attn.* | condition_embedder.*", classes="WanControl*"),
    Signature(CONTROLNET, "a ControlNet of Cosmos", "control_blocks.*",
              classes="CosmosControlNet*"),
    Signature(CONTROLNET, "a ControlNet of Stable Cascade", "backbone.0.* & projections.0.*"),
    Signature(CONTROLNET, "a ControlNet of a diffusion transformer",
              "controlnet_* & transformer_blocks.* | blocks.*"),
    Signature(OTHER, "a fuser of CoAdapters", "task_embedding & spatial_feat_mapping.*"),
    Signature(CONTROLNET, "a ControlNet-Union by other names than diffusers'",
              "*task_embedding & *input_hint_block.*"),
    Signature(CONTROLNET, "a ControlNet with its base",
              "control_model.input_hint_block.* & model.diffusion_model.*",
              read_by=UNET, also=BASE),
    Signature(CONTROLNET, "a ControlNet-Union", "controlnet_cond_embedding.* & task_embedding",
              classes="ControlNetUnionModel ControlNetModel_Union", read_by=UNET),
    Signature(CONTROLNET, "a ControlNet",
              "controlnet_cond_embedding.* | *input_hint_block.* | controlnet_down_blocks.*",
              classes="ControlNetModel MultiControlNet*", read_by=UNET),
    Signature(CONTROLNET, "a ControlNet without a hint encoder", "*control_model.*"),
    Signature(CONTROLNET, "a ControlNet of a form that is not known",
              "controlnet* | *zero_convs.*", classes="*ControlNet*Model"),
    # Adapters.
    Signature(OTHER, "an IP-Adapter of FLUX",
              "*ip_adapter_double_stream* | *ip_adapter_proj_model.*"),
    Signature(OTHER, "an IP-Adapter", "ip_adapter.* | image_proj.* | *to_k_ip.*"),
    Signature(OTHER, "a PuLID", "pulid_* | id_adapter*"),
    Signature(OTHER, "a Redux of FLUX", "redux_*", classes="Redux*"),
    Signature(OTHER, "a T2I-Adapter for style", "style_embedding"),
    Signature(OTHER, "a T2I-Adapter",
              "*adapter*.body.* | body.*.block1.* | body.*.resnets.* | body.*.in_conv.*",
              classes="T2IAdapter MultiAdapter"),
    Signature(OTHER, "an ELLA", "*perceiver_blocks.* & *latents"),
    Signature(OTHER, "a motion module (AnimateDiff)",
              "*motion_modules.* & !*.resnets.* & !*.in_layers.*", classes="MotionAdapter"),
    Signature(OTHER, "a GLIGEN", "*.fuser.* | *position_net.*", classes="*GLIGEN*"),
    # Bases with a U-Net.
    Signature(BASE, "a base for video (AnimateDiff)", "*motion_modules.* | *temporal_attentions.*",
              classes="AnimateDiff* UNetMotionModel"),
    Signature(BASE, "a base for video (Stable Video Diffusion)",
              "*time_stack.* | *temporal_transformer_blocks.* | *spatial_res_block.* & !decoder.*",
              classes="StableVideoDiffusion* UNetSpatioTemporal*"),
    Signature(BASE, "SDXL's refiner",
              "conditioner.embedders.0.model.* & !conditioner.embedders.1.*",
              advice="give the base that it refines"),
    Signature(BASE, "a base of Kolors",
              "*label_emb.0.0.weight=*x5632 | encoder_hid_proj.weight=*x4096", classes="Kolors*"),
    Signature(BASE, "a base that follows instructions (InstructPix2Pix)",
              "*input_blocks.0.0.weight=320x8x3x3", classes="*InstructPix2Pix*"),
    Signature(BASE, "a base that reads depth", "*input_blocks.0.0.weight=320x5x3x3",
              classes="*Depth2Img*"),
    Signature(BASE, "an upscaler of Stable Diffusion", "*input_blocks.0.0.weight=*x7x3x3",
              classes="StableDiffusion*Upscale*"),
    Signature(BASE, "a base of Stable Diffusion", "model.diffusion_model.input_blocks.*",
              classes="StableDiffusion[!3]*", read_by=UNET),
    Signature(OTHER, "a U-Net without the rest of its base",
              "up_blocks.*.resnets.* | output_blocks.* & down_blocks.* | input_blocks.*",
              classes="UNet*Model", advice=WHOLE),
    # Bases with a transformer, and others.
    Signature(BASE, "a base of Chroma", "*distilled_guidance_layer.*", classes="Chroma*"),
    Signature(BASE, "a base of HunyuanVideo",
              "*individual_token_refiner.* | *token_refiner.refiner_blocks.* | *img_attn_qkv.*",
              classes="HunyuanVideo*"),
    Signature(BASE, "a base of FLUX.2", "*_stream_modulation*", classes="Flux2*"),
    Signature(BASE, "a base of AuraFlow", "*double_layers.* | joint_transformer_blocks.*",
              classes="AuraFlow*"),
    Signature(BASE, "a base of FLUX that reads more than latents (Fill, Canny, Depth)",
              "*img_in.weight=*x128 | *img_in.weight=*x384 | *x_embedder.weight=*x128"
              " | *x_embedder.weight=*x384 & *double_blocks.* | single_transformer_blocks.*",
              advice=OF_FLUX_DEV),
    Signature(BASE, "a base of FLUX", "*double_blocks.* | single_transformer_blocks.*",
              classes="Flux*", read_by=FLUX),
    Signature(BASE, "a base of Stable Diffusion 3",
              "*joint_blocks.* | transformer_blocks.*.ff_context.* & *joint_blocks.* | pos_embed.*",
              classes="StableDiffusion3* SD3*", read_by=SD3),
    Signature(BASE, "a base of Qwen-Image", "*transformer_blocks.*img_m*", classes="QwenImage*",
              read_by=QWEN),
    Signature(BASE, "a base of Z-Image",
              "*cap_pad_token | *all_x_embedder.* | *cap_embedder.1.weight=3840x*",
              classes="ZImage*", read_by=ZIMAGE),
    Signature(BASE, "a base of Lumina", "*cap_embedder.* | *time_caption_embed.*",
              classes="Lumina*"),
    Signature(BASE, "a base of HunyuanDiT", "*mlp_t5.* | text_embedding_padding",
              classes="HunyuanDiT*"),
    Signature(BASE, "a base of Sana", "*mlp.depth_conv.* | *ff.conv_inverted.*", classes="Sana*"),
    Signature(BASE, "a base of LTX-Video",
              "*patchify_proj.* | scale_shift_table & *patchify_proj.* | caption_projection.*",
              classes="LTX*"),
    Signature(BASE, "a base of PixArt",
              "*cross_attn.q_linear.* | *y_embedder.y_proj.* | adaln_single.*", classes="PixArt*"),
    Signature(BASE, "a base of HiDream", "*double_stream_blocks.*", classes="HiDream*"),
    Signature(BASE, "a base of Mochi", "*t5_yproj.* | *attn.qkv_x.* | time_embed.pooler.*",
              classes="Mochi*"),
    Signature(BASE, "a base of Cosmos", "*x_embedder.proj.1.* | learnable_pos_embed.*",
              classes="Cosmos*"),
    Signature(BASE, "a base of Wan", "*head.modulation | condition_embedder.*", classes="Wan*"),
    Signature(BASE, "a base of CogVideoX", "patch_embed.text_proj.*", classes="CogVideoX*"),
    Signature(BASE, "a base of Stable Cascade",
              "*clip_txt_*mapper.* | *effnet_mapper.* | clip_mapper.*",
              classes="StableCascade*"),
    # Parts of bases.
    Signature(OTHER, "a T5 text encoder", "*encoder.block.*SelfAttention.*", advice=WHOLE,
              classes="*T5EncoderModel"),
    Signature(OTHER, "a CLIP text encoder", "*text_model.* | transformer.resblocks.*",
              classes="CLIPTextModel*", advice=WHOLE),
    Signature(OTHER, "a language model", "model.layers.*.self_attn.* | *language_model.*"
              " | layers.*.self_attn.* | *.query_key_value.*", advice=WHOLE),
    Signature(OTHER, "an image encoder", "*vision_model.* | visual.*", classes="*VisionModel*"),
    Signature(OTHER, "a restorer of faces", "*stylegan_decoder* | quantize.embedding.* & !quant_*"),
    # Other networks.
    Signature(OTHER, "an upscaler (ESRGAN)", "*.RDB1.* | *.rdb1.*"),
    Signature(OTHER, "an upscaler",
              "*relative_position_bias_table | *.attn.attns.* | body.*.weight"),
    Signature(OTHER, "weights of a detector",
              "*depth_head.* | *pretrained.model.* | netVgg* | block1.convs.* | model1_1.*"
              " | *mask_decoder.* | model0.1.* | encoder.original_model.* | *block15.*"
              " | *init_block.*", advice=DETECTOR),
    Signature(OTHER, "a VAE", "decoder.* | taesd_* | *first_stage_model.decoder.* | vquantizer.*",
              classes="Autoencoder* VQModel", advice=WHOLE),
    Signature(BASE, "a diffusion transformer",
              "*transformer_blocks.*.attn* | *blocks.*.attn*.* | *layers.*.attention.*",
              classes="*Transformer?DModel"),
    Signature(EMBEDDING, "an embedding (textual inversion)", "emb_params | clip_l", read_by=UNET),
    Signature(EMBEDDING, "an embedding (textual inversion)",
              "*=768 | *=*x768 | *=1024 | *=*x1024 | *=1280 | *=*x1280", read_by=UNET, count=1),
)
# fmt: on
