"""One experiment, from video to tables: `snakemake all` (config.yaml: the paper's)."""

import importlib.util
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

min_version("9.25")

# The packages beside this file count, wherever Snakemake starts (--directory). Fetched from GitHub as
# a module, this file has none beside it: those that pip has installed count.
beside = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
if (beside / "pipeline").is_dir():
    sys.path.insert(0, str(beside))
package = importlib.util.find_spec("pipeline")
if package is None:
    raise WorkflowError("midframe is not installed: pip install its repository first")
ROOT = Path(package.origin).parents[1]

# A configuration file given on the command line stands in place of config.yaml: merged with it,
# its stages would be added to the paper's.
if not workflow.config_settings.configfiles:

    configfile: beside / "config.yaml"


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
shell.prefix(f'export PATH="{python}$PATH" PYTHONPATH="{ROOT}"; ')


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
