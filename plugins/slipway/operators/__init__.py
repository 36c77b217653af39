"""The steps of Slipway's jobs as Airflow operators. Besides ``web`` and ``dags``, only this package imports Airflow."""
