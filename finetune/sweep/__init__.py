"""Many trainings of one recipe, to find the settings that suit it.

    recipe.yaml + sweep.yaml ─► trials ─► a child process each ─► score on dev ─► results.json
                                 `space`        `trial`                  `job`

runs/<name>/sweep-<id>/           one recipe on one set of data
  results.json                    every trial that ended, the best first
  <trial>/recipe.yaml  state/     an unfinished one: it is taken up again
  <trial>/result.json  logs/  trial.log

A process each, since TensorFlow gives memory back only when it ends, and a trial that dies of its
settings must not end the others.
"""
