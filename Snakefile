"""One experiment, from video to tables: `snakemake all` (config.yaml: the paper's)."""

import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

min_version("9.25")

# The repository's own packages, wherever Snakemake was started (--directory).
sys.path.insert(0, workflow.basedir)

# A configuration file given on the command line stands in place of config.yaml: merged with it,
# its stages would be added to the paper's.
if not workflow.config_settings.configfiles:

    configfile: Path(workflow.basedir, "config.yaml")


include: "workflow/rules/paths.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/report.smk"


# Commands run with this Python, also where it is not on the PATH; a conda environment brings its own.
python = f"{Path(sys.executable).parent}:"
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    python = ""
shell.prefix(f'export PATH="{python}$PATH" PYTHONPATH="{workflow.basedir}"; ')


localrules:
    all,
    dataset,
    train,
    evaluate,
    inspect,


rule all:
    default_target: True
    input:
        rules.dataset.input,
        rules.train.input,
        rules.evaluate.input,
        rules.inspect.input,
        rules.report_page.output,
