"""A look at the patch stores."""


rule inspect:
    input:
        expand(f"{INSPECTION}/index.html", patches=EXPERIMENT.patches),


rule inspect_patches:
    input:
        patches=PATCHES,
    output:
        page=report(
            f"{INSPECTION}/index.html",
            caption="../report/patches.rst",
            category="Dataset",
            labels={"patches": "{patches}", "view": "summary"},
        ),
        sheet=report(
            f"{INSPECTION}/contact_sheet.png",
            caption="../report/contact_sheet.rst",
            category="Dataset",
            labels={"patches": "{patches}", "view": "contact sheet"},
        ),
        summary=f"{INSPECTION}/summary.json",
    log:
        f"{LOGS}/inspect/{{patches}}.log",
    benchmark:
        f"{BENCHMARKS}/inspect/{{patches}}.tsv"
    conda:
        "../../envs/data.yaml"
    params:
        out=lambda wildcards: INSPECTION.format(patches=wildcards.patches),
        code=source_digest(
            "pipeline/look/inspection.py", "pipeline/look/inspection.html"
        ),
    shell:
        "python -m midframe inspect {input.patches} --out {params.out:q} 2>&1 | tee {log}"
