"""From patch stores to networks."""


rule train:
    input:
        expand(MODEL, stage=EXPERIMENT.stages),


rule fetch_vgg:
    output:
        VGG,
    log:
        f"{LOGS}/fetch_vgg.log",
    benchmark:
        f"{BENCHMARKS}/fetch_vgg.tsv"
    conda:
        MODEL_ENVIRONMENT
    resources:
        downloads=1,
    shell:
        "python -m midframe fetch-vgg --out {output} 2>&1 | tee {log}"


rule train_stage:
    input:
        patches=lambda wildcards: PATCHES.format(
            patches=EXPERIMENT.stages[wildcards.stage].patches
        ),
        validation=lambda wildcards: PATCHES.format(
            patches=EXPERIMENT.stages[wildcards.stage].validation
        ),
        parent=parent,
        vgg=lambda wildcards: (
            EXPERIMENT.vgg or VGG if needs_vgg(wildcards.stage) else []
        ),
        frames=visual_frames,
    output:
        directory(MODEL),
    log:
        f"{LOGS}/train/{{stage}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{stage}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: CORES
    resources:
        gpu=1,  # processes that share the stage; `--set-resources train_stage:gpu=4`
    params:
        settings=lambda wildcards: as_json(
            EXPERIMENT.stages[wildcards.stage].training()
        ),
        init=init_argument,
        vgg=lambda wildcards, input: f"--vgg {input.vgg}" if input.vgg else "",
        frames=lambda wildcards, input: (
            f"--frames {input.frames}" if input.frames else ""
        ),
        code=source_digest(
            "model/training/train.py",
            "model/training/stage.py",
            "model/training/parts.py",
            "model/training/validation.py",
            "model/network/architecture.py",
            "model/sepconv/kernels.py",
            "model/sepconv/scalars.cu",
            "model/sepconv/simple.cu",
            "model/sepconv/tiled.cu",
            "model/network/losses.py",
            "model/network/vgg.py",
            "model/training/patches.py",
            "model/network/checkpoints.py",
            "model/training/visual_tests.py",
        ),
    shell:
        "python -m midframe train {input.patches} --validation {input.validation} --out {output}"
        " {params.init} {params.vgg} {params.frames} --processes {resources.gpu}"
        " --settings {params.settings:q} 2>&1 | tee {log}"
