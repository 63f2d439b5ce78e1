"""From networks to tables, figures and videos."""


rule evaluate:
    input:
        expand(f"{TABLE}/table.md", table=EXPERIMENT.tables),
        expand(FIGURE, figure=FIGURES),
        expand(VIDEO, video=EXPERIMENT.videos),


rule fetch_lpips:
    output:
        directory(LPIPS),
    log:
        f"{LOGS}/fetch_lpips.log",
    benchmark:
        f"{BENCHMARKS}/fetch_lpips.tsv"
    retries: 2
    conda:
        MODEL_ENVIRONMENT
    shell:
        "python -m midframe fetch-lpips --out {output} 2>&1 | tee {log}"


rule predict_model:
    input:
        frames=evaluation_frames,
        model=lambda wildcards: weights_input(wildcards.model),
    output:
        directory(PREDICTIONS),
    log:
        f"{LOGS}/predict/{{evaluation}}/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/predict/{{evaluation}}/{{model}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: CORES
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: as_json(
            EXPERIMENT.evaluations[wildcards.evaluation],
            "dataset",
            "folder",
            "pictures",
            "perceptual",
            "cut_bins",
            "cut_method",
            "cut_threshold",
            "flow_cut_threshold",
        ),
        model=lambda wildcards: predictions_option(wildcards.model),
        code=source_digest(
            "model/evaluation/kept.py",
            "model/evaluation/predictions.py",
            "model/evaluation/triplets.py",
            "model/evaluation/benchmarks.py",
            "model/video/interpolation.py",
            "model/video/flow_prediction.py",
            "model/video/warping.py",
            "model/network/tiling.py",
            "model/network/architecture.py",
        ),
    shell:
        "python -m midframe predict {input.frames} {params.model}"
        " --label {wildcards.model:q} --out {output} --settings {params.settings:q}"
        " 2>&1 | tee {log}"


rule evaluate_model:
    input:
        frames=evaluation_frames,
        model=scored,
        lpips=lpips_weights,
    output:
        directory(EVALUATION),
    log:
        f"{LOGS}/evaluate/{{evaluation}}/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{evaluation}}/{{model}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: CORES
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: as_json(
            EXPERIMENT.evaluations[wildcards.evaluation], "dataset", "folder"
        ),
        model=scored_option,
        lpips=lambda wildcards, input: f"--lpips {input.lpips}" if input.lpips else "",
        code=source_digest(
            "model/evaluation/evaluate.py",
            "model/evaluation/kept.py",
            "model/evaluation/scoring.py",
            "model/evaluation/similarity.py",
            "model/evaluation/interpolation_error.py",
            "model/evaluation/ffmpeg.py",
            "model/network/lpips.py",
            "model/evaluation/cut_distances.py",
            "model/evaluation/predictions.py",
            "model/evaluation/triplets.py",
            "model/evaluation/benchmarks.py",
            "model/video/interpolation.py",
            "model/video/flow_prediction.py",
            "model/video/warping.py",
            "model/network/tiling.py",
            "model/evaluation/metrics.py",
            "model/pixels.py",
            "model/network/architecture.py",
            "pipeline/selection/jump_cuts.py",
            "pipeline/selection/flow_cuts.py",
            "pipeline/selection/frame_changes.py",
            "pipeline/store/evaluation_files.py",
        ),
    shell:
        "python -m midframe evaluate {input.frames} {params.model} {params.lpips}"
        " --label {wildcards.model:q} --out {output} --settings {params.settings:q}"
        " 2>&1 | tee {log}"


rule tabulate:
    input:
        evaluations=table_rows,
    output:
        markdown=f"{TABLE}/table.md",
        csv=report(
            f"{TABLE}/table.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"{LOGS}/tabulate/{{table}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate/{{table}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    params:
        settings=table_settings,
        skipped=table_skipped,
        out=lambda wildcards: TABLE.format(table=wildcards.table),
        code=source_digest(
            "model/reporting/tables.py",
            "model/reporting/comparison.py",
            "model/evaluation/bootstrap.py",
            "model/reporting/published.py",
            "model/reporting/literature.py",
            "model/reporting/literature.csv",
            "model/evaluation/measures.py",
            "model/evaluation/scoring.py",
            "model/evaluation/metrics.py",
        ),
    shell:
        "python -m midframe tables {input.evaluations} {params.skipped} --out {params.out:q}"
        " --settings {params.settings:q} 2>&1 | tee {log}"


rule draw:
    input:
        stages=figure_stages,
        evaluations=figure_evaluations,
        resolutions=figure_resolutions,
    output:
        report(
            directory(FIGURE),
            patterns=["{picture}.png"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "picture": "{picture}"},
        ),
    log:
        f"{LOGS}/draw/{{figure}}.log",
    benchmark:
        f"{BENCHMARKS}/draw/{{figure}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    params:
        settings=lambda wildcards: as_json(
            EXPERIMENT.figures[wildcards.figure],
            "stages",
            "evaluation",
            "models",
            "resolutions",
        ),
        training=lambda wildcards, input: option("training", input.stages),
        evaluation=lambda wildcards, input: option("evaluation", input.evaluations),
        resolutions=lambda wildcards, input: option("resolutions", input.resolutions),
        code=source_digest(
            "model/reporting/figures.py", "model/reporting/loss_curve.py"
        ),
    shell:
        "python -m midframe figures {params.training} {params.evaluation} {params.resolutions}"
        " --out {output} --settings {params.settings:q} 2>&1 | tee {log}"


rule double_frame_rate:
    input:
        frames=lambda wildcards: FRAMES.format(
            dataset=EXPERIMENT.videos[wildcards.video].dataset
        ),
        model=lambda wildcards: weights_input(EXPERIMENT.videos[wildcards.video].model),
    output:
        report(
            VIDEO,
            caption="../report/video.rst",
            category="Videos",
            labels={"video": "{video}"},
        ),
    log:
        f"{LOGS}/double_frame_rate/{{video}}.log",
    benchmark:
        f"{BENCHMARKS}/double_frame_rate/{{video}}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: CORES
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: as_json(
            EXPERIMENT.videos[wildcards.video], "dataset", "file", "model", "times"
        ),
        file=lambda wildcards: EXPERIMENT.videos[wildcards.video].file,
        model=lambda wildcards: model_argument(EXPERIMENT.videos[wildcards.video].model),
        times=lambda wildcards: EXPERIMENT.videos[wildcards.video].times,
        code=source_digest(
            "model/video/smoothing.py",
            "model/video/ahead.py",
            "model/video/codecs.py",
            "model/video/conversion.py",
            "model/video/files.py",
            "model/video/parts.py",
            "model/video/pictures.py",
            "model/video/planes.py",
            "model/video/properties.py",
            "model/video/schedule.py",
            "model/video/streams.py",
            "model/video/writer.py",
            "model/video/interpolation.py",
            "model/video/flow_prediction.py",
            "model/video/warping.py",
            "model/pixels.py",
            "model/network/tiling.py",
            "model/network/architecture.py",
            "pipeline/selection/passing_cuts.py",
            "pipeline/selection/jump_cuts.py",
            "pipeline/selection/flow_cuts.py",
            "pipeline/selection/frame_changes.py",
        ),
    shell:
        "python -m midframe interpolate {input.frames}/{params.file:q} {output}"
        " --model {params.model:q} --times {params.times} --settings {params.settings:q}"
        " 2>&1 | tee {log}"
