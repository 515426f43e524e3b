"""Every customer's list ahead of time, and a service that answers over HTTP.

Run it: python docs/examples/python/08_lists_and_service.py
"""

import endcap

project = endcap.open("trial", sets=["search=null"])
project.ingest()
project.features()
project.evaluate(project.train())
project.refit()
project.deploy(project.register())

lists = project.recommend()  # published in the online store, so that requests may ask for them
print(lists)
print(lists.to_arrow().slice(0, 1).to_pylist())

with project.serve() as address, endcap.Client(address, project.recommender.name) as client:
    customer = lists.to_arrow()["customer"][0].as_py()
    ranking = client.rank(shopper=customer, customer=customer, k=5)
    print(ranking.variant, ranking.model_version, ranking.ids)
