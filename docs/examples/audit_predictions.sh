#!/bin/sh
# Somebody else's system, of which nothing is known but what it said: predictions.csv has one row a picture, with the
# true label, what the system answered, and what people told of themselves. Type it in the folder that holds the file.
set -eu
fedfer audit predictions=predictions.csv subject=person
fedfer audit predictions=predictions.csv subject=person --out audited
fedfer audit key auditor.key
fedfer audit predictions=predictions.csv subject=person --out signed --sign auditor.key
fedfer audit verify signed key=auditor.key.pub
