# `helm test`: the Space's /health answers. One on the Hub is paused most of the day: 503 is its
# right to say, but any other answer means that there is no Space at this address.
import os
import sys

import requests

url = os.environ["KRONOS_SPACE_URL"].rstrip("/") + "/health"
try:
    answer = requests.get(url, timeout=60)
except requests.RequestException as error:
    sys.exit(f"Error: {url} cannot be reached: {type(error).__name__}")
if answer.status_code == 503 and not os.environ["IN_CLUSTER"]:
    print(f"{url} sleeps; kronosbot wakes it")
elif answer.status_code == 200 and answer.json()["status"] == "ok":
    print(f"{url}: {answer.json()['model']} is ready")
else:
    sys.exit(f"Error: {url} answered {answer.status_code}")
