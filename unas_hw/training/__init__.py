"""Training one network from scratch, and evaluating it. See docs/training.md."""

from unas_hw.training.evaluation import Evaluation as Evaluation
from unas_hw.training.evaluation import accuracy as accuracy
from unas_hw.training.evaluation import evaluate as evaluate
from unas_hw.training.hardware import Hardware as Hardware
from unas_hw.training.loop import lacking as lacking
from unas_hw.training.loop import train as train
from unas_hw.training.recipes import RECIPES as RECIPES
from unas_hw.training.recipes import Recipe as Recipe
from unas_hw.training.recipes import find_recipe as find_recipe
