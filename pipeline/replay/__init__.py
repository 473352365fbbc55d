"""The replay: a data set's history landed period by period, with the whole pipeline run after each."""
