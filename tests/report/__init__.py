"""Reports: sentences, findings, the page in a browser, the terminal; of results that sample.py makes."""
