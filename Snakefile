"""One experiment, from video to tables: `snakemake all` (config.yaml: the paper's).

The graph is in workflow/Snakefile, where snakedeploy and the workflow catalog look for it.
"""


include: "workflow/Snakefile"


localrules:
    default,


# What is included sets no default target.
rule default:
    default_target: True
    input:
        rules.all.input,
