"""Building what is deployed: images and zips by content, release.json, and the start of what was deployed."""
