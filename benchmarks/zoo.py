"""False alarms on standard architectures: `python -m benchmarks.zoo [--no-confirm] [--resume FILE] [MODEL ...]`.

Every model of the list is built small from its configuration, trained for 30 steps on data that it can learn, and
diagnosed. All of them are healthy: whatever is reported at level error or warning is a false alarm. Those of timm are left
out where it is not installed (it needs torchvision, and that the torch that it was built for).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("zoo_program.py")
TIMM_PROGRAM = Path(__file__).with_name("zoo_timm.py")
MODELS = {
    "classify": (
        "bert roberta distilbert albert electra deberta deberta-v2 xlnet mpnet funnel longformer big_bird camembert xlm "
        "flaubert convbert squeezebert mobilebert rembert nystromformer fnet canine ernie megatron-bert roformer ibert "
        "luke layoutlm modernbert xlm-roberta data2vec-text xmod nezha yoso mra gpt2 openai-gpt"
    ),
    "tag": "bert roberta distilbert electra deberta-v2 albert",
    "lm": (
        "gpt2 gpt_neo gpt_neox gptj opt bloom llama mistral mixtral qwen2 qwen2_moe qwen3 phi phi3 gemma gemma2 falcon "
        "mpt codegen xglm ctrl openai-gpt mamba mamba2 rwkv olmo olmo2 stablelm starcoder2 cohere persimmon biogpt "
        "granite gpt_bigcode helium nemotron"
    ),
    "translate": "t5 mt5 bart mbart pegasus marian blenderbot blenderbot-small m2m_100 prophetnet switch_transformers led",
    "image": (
        "vit deit beit swin swinv2 convnext convnextv2 resnet regnet mobilenet_v1 mobilenet_v2 poolformer segformer pvt "
        "cvt levit dinov2 focalnet bit mobilevit data2vec-vision vit_msn ijepa dinov2_with_registers"
    ),
    "audio": "wav2vec2 hubert wavlm sew unispeech unispeech-sat data2vec-audio",
    "timm": (
        "resnet18 resnet26d resnetv2_50x1_bit mobilenetv3_small_050 mobilenetv2_050 efficientnet_b0 efficientnet_lite0 "
        "regnetx_002 regnety_002 ghostnet_050 mnasnet_small vgg11_bn repvgg_a0 rexnet_100 dla34 hrnet_w18_small "
        "tf_efficientnetv2_b0 convmixer_768_32 edgenext_xx_small mobilevit_xxs mobilevitv2_050 levit_128s convnext_atto "
        "convnextv2_atto fastvit_t8 mobileone_s0 tinynet_e lcnet_050 skresnet18 densenet121 seresnext26d_32x4d "
        "ese_vovnet19b_dw efficientvit_b0 efficientvit_m0 repghostnet_050 inception_next_atto dm_nfnet_f0 nf_resnet50 "
        "botnet26t_256 halonet26t starnet_s1 mambaout_femto vit_tiny_patch16_224 deit_tiny_patch16_224 "
        "swin_tiny_patch4_window7_224 mixer_s32_224 gmixer_12_224 resmlp_12_224 gmlp_ti16_224 cait_xxs24_224 "
        "xcit_nano_12_p16_224 poolformer_s12 pit_ti_224 crossvit_tiny_240 coat_lite_tiny visformer_tiny "
        "eva02_tiny_patch14_224 sequencer2d_s beit_base_patch16_224 vit_relpos_small_patch16_224"
    ),
}


def main() -> None:
    """Diagnose all, print alarms and rates."""
    arguments = sys.argv[1:]
    resume = Path(arguments.pop(arguments.index("--resume") + 1)) if "--resume" in arguments else None
    extra = [a for a in arguments if a.startswith("-") and a != "--resume"]
    names = [a for a in arguments if not a.startswith("-")]
    outcomes = [json.loads(line) for line in resume.read_text().splitlines()] if resume and resume.exists() else []
    done = {(o["task"], o["model"]) for o in outcomes}
    jobs = [(task, model) for task, models in MODELS.items() for model in models.split() if not names or model in names]
    if importlib.util.find_spec("timm") is None:
        jobs = [job for job in jobs if job[0] != "timm"]
    for number, (task, model) in enumerate(jobs, 1):
        if (task, model) in done:
            continue
        outcome = _examine(task, model, extra)
        outcomes.append(outcome)
        print(f"[{number}/{len(jobs)}] {task:<10}{model:<24}{outcome['state']:<10}{' '.join(outcome['alarms']) or '-'}"
              f"  {outcome['seconds']:.0f} s", flush=True)  # fmt: skip
        if resume:
            with resume.open("a") as file:
                file.write(json.dumps(outcome) + "\n")
    trained = [o for o in outcomes if o["state"] == "trained"]
    errors = sum(any(a.endswith("!") for a in o["alarms"]) for o in trained)
    print(f"\n{len(trained)} models trained and examined ({len(outcomes) - len(trained)} could not be built small): "
          f"{errors} with an error, {sum(bool(o['alarms']) for o in trained)} with an error or a warning")  # fmt: skip


def _examine(task: str, model: str, extra: list[str]) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "report.json"
        script = TIMM_PROGRAM if task == "timm" else PROGRAM
        program = ["diagnose", str(script), "--isolated", "-q", "--output", str(target), *extra]
        command = [sys.executable, "-m", "doctor", *program, "--", "--model", model, "--task", task]
        subprocess.run(command, cwd=scratch, check=False, capture_output=True)
        report = json.loads(target.read_text()) if target.exists() else None
    seconds = time.monotonic() - started
    if report is None or report["subject"]["steps"] < 20:
        return {"task": task, "model": model, "state": "not built", "alarms": [], "seconds": seconds}
    alarms = [
        finding["rule"] + ("!" if finding["severity"] == "error" else "")
        for finding in report["findings"]
        if finding["severity"] != "info"
    ]
    messages = [finding["message"] for finding in report["findings"] if finding["severity"] != "info"]
    known = {"task": task, "model": model, "state": "trained", "alarms": alarms, "messages": messages}
    return {**known, "seconds": seconds}


if __name__ == "__main__":
    main()
