"""Who may do what: declared by each unit, derived here, granted on the narrowest resource there is."""
