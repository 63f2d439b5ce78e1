"""From videos to patch stores."""


rule dataset:
    input:
        expand(PATCHES, patches=EXPERIMENT.patches),


rule fetch:
    input:
        user_files,
    output:
        directory(FRAMES),
    log:
        f"{LOGS}/fetch/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/fetch/{{dataset}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: CORES
    resources:
        downloads=1,
    params:
        settings=lambda wildcards: as_json(EXPERIMENT.datasets[wildcards.dataset]),
        archives=ARCHIVES,
    shell:
        "python -m midframe fetch --out {output} --archives {params.archives:q}"
        " --workers {threads} --settings {params.settings:q} 2>&1 | tee {log}"


rule score:
    input:
        frames=FRAMES,
    output:
        directory(MOTION),
    log:
        f"{LOGS}/score/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/score/{{dataset}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: CORES
    params:
        settings=as_json(EXPERIMENT.motion),
        code=source_digest(
            "pipeline/selection/motion.py",
            "pipeline/store/motion_store.py",
            "pipeline/frames/sequences.py",
            "pipeline/frames/frame_sequence.py",
            "pipeline/frames/losses.py",
            "pipeline/frames/image_index.py",
            "pipeline/frames/decoding.py",
            "pipeline/frames/video.py",
            "pipeline/frames/fields.py",
            "pipeline/frames/damage.py",
            "pipeline/frames/video_index.py",
            "pipeline/flow/optical_flow.py",
            "pipeline/flow/simpleflow.py",
            "pipeline/flow/block_matching.py",
            "pipeline/flow/window_costs.py",
            "pipeline/flow/bilateral_filter.py",
            "pipeline/simd/llvm.py",
            "pipeline/simd/registers.py",
        ),
    shell:
        "python -m midframe score {input.frames} --out {output} --workers {threads}"
        " --settings {params.settings:q} 2>&1 | tee {log}"


rule cuts:
    input:
        frames=FRAMES,
    output:
        directory(CUTS),
    log:
        f"{LOGS}/cuts/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/cuts/{{dataset}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: CORES
    params:
        settings=as_json(EXPERIMENT.cuts),
        code=source_digest(
            "pipeline/selection/cuts.py",
            "pipeline/selection/measures.py",
            "pipeline/selection/jump_cuts.py",
            "pipeline/selection/frame_changes.py",
            "pipeline/selection/flow_cuts.py",
            "pipeline/frames/sequences.py",
            "pipeline/frames/frame_sequence.py",
            "pipeline/frames/losses.py",
            "pipeline/frames/image_index.py",
            "pipeline/frames/decoding.py",
            "pipeline/frames/video.py",
            "pipeline/frames/fields.py",
            "pipeline/frames/damage.py",
            "pipeline/frames/video_index.py",
        ),
    shell:
        "python -m midframe cuts {input.frames} --out {output} --workers {threads}"
        " --settings {params.settings:q} 2>&1 | tee {log}"


rule sample:
    input:
        frames=lambda wildcards: datasets_of(wildcards, FRAMES),
        motion=lambda wildcards: datasets_of(wildcards, MOTION),
        cuts=lambda wildcards: datasets_of(wildcards, CUTS),
        apart=apart_from,
    output:
        directory(PATCHES),
    log:
        f"{LOGS}/sample/{{patches}}.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{patches}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: CORES
    params:
        settings=lambda wildcards: as_json(EXPERIMENT.patches[wildcards.patches]),
        apart=lambda wildcards, input: option("apart-from", input.apart),
        code=source_digest(
            "pipeline/selection/patches.py",
            "pipeline/selection/triplets.py",
            "pipeline/selection/candidates.py",
            "pipeline/selection/sampling.py",
            "pipeline/selection/judging.py",
            "pipeline/store/flags.py",
            "pipeline/selection/frame_changes.py",
            "pipeline/selection/flow_cuts.py",
            "pipeline/selection/cuts.py",
            "pipeline/store/patch_store.py",
            "pipeline/selection/window_motion.py",
            "pipeline/frames/sequences.py",
            "pipeline/frames/frame_sequence.py",
            "pipeline/frames/losses.py",
            "pipeline/frames/image_index.py",
            "pipeline/frames/decoding.py",
            "pipeline/frames/video.py",
            "pipeline/frames/fields.py",
            "pipeline/frames/damage.py",
            "pipeline/frames/video_index.py",
        ),
    shell:
        "python -m midframe sample {input.frames} --motion {input.motion} --cuts {input.cuts}"
        " {params.apart} --out {output} --workers {threads} --settings {params.settings:q} 2>&1 | tee {log}"
