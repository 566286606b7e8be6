"""Language models: their hook points, passes, interventions on passes, losses and generation."""
