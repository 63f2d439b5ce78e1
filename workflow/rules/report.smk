"""One page about the whole experiment."""


rule report_page:
    input:
        inspection=expand(f"{INSPECTION}/index.html", patches=EXPERIMENT.patches),
        training=expand(MODEL, stage=EXPERIMENT.stages),
        evaluation=reported_evaluations(),
        tables=expand(f"{TABLE}/table.md", table=TABLES),
        figures=expand(FIGURE, figure=FIGURES),
        videos=expand(VIDEO, video=EXPERIMENT.videos),
    output:
        report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Summary",
            labels={"page": "the experiment"},
        ),
    log:
        f"{LOGS}/report_page.log",
    benchmark:
        f"{BENCHMARKS}/report_page.tsv"
    conda:
        MODEL_ENVIRONMENT
    params:
        title=Path(RESULTS).name,
        inspection=lambda wildcards, input: option(
            "inspection", parents(input.inspection)
        ),
        training=lambda wildcards, input: option("training", input.training),
        evaluation=lambda wildcards, input: option("evaluation", input.evaluation),
        tables=lambda wildcards, input: option("table", parents(input.tables)),
        figures=lambda wildcards, input: option("figures", input.figures),
        videos=lambda wildcards, input: option("video", input.videos),
        skipped=option(
            "skipped",
            [shlex.quote(f"{name}: {why}") for name, why in SKIPPED.items()],
        ),
        code=source_digest("model/reporting/report.py", "model/reporting/report.html"),
    shell:
        "python -m midframe report --out {output} --title {params.title:q} {params.inspection}"
        " {params.training} {params.evaluation} {params.tables} {params.figures} {params.videos}"
        " {params.skipped}"
        " 2>&1 | tee {log}"
