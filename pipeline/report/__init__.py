"""The report: one HTML file with pictures that open without network, in any browser, on a phone and on paper."""
