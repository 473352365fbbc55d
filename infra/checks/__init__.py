"""What is checked of synthesized stacks before anything is deployed."""
