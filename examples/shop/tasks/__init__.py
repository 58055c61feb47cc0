"""The shop's own Celery app and tasks, which the pipeline's tasks neither join nor replace."""

from celery import Celery

from config import SHOP_NAME

app = Celery("shop", broker="memory://")


@app.task
def send_receipt(order_id: str, user: str) -> str:
    """What a customer is sent after buying something."""
    return f"{SHOP_NAME}: thank you, {user}, for order {order_id}"
