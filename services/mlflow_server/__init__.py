"""MLflow's tracking server on Cloud Run."""
