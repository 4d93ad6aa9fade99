"""One file for each long operation, which reads as its recipe: the steps in order, each with what undoes it."""

from nova_fast.conductor.workflows.create_server import CREATE_SERVER
from nova_fast.conductor.workflows.delete_server import DELETE_SERVER
from nova_fast.conductor.workflows.power_server import POWER_SERVER
from nova_fast.conductor.workflows.recipe import Recipe

RECIPES: dict[str, Recipe] = {recipe.kind: recipe for recipe in (CREATE_SERVER, DELETE_SERVER, POWER_SERVER)}
